"""Evidence that a learner forgets: pure functions of values, and the sums that a snapshot carries of them.

Three instruments, each for the whole stream and for every slice:

* :class:`learners.evidence.lane.Lane`: looks at the same frozen rows. Scoring them again gives no new evidence each
time, so a look counts by
  being above a level that was held before, many times in a row; no probability is claimed for a single look.
* :class:`learners.evidence.paired.Paired`: loss differences between the learner and its reference on the same fresh
events, scored before either
  learns. The alarm is an e-detector of Shiryaev-Roberts kind: J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a
  nonparametric framework for sequential change detection" (2023), theorem 2.4: while the mean difference stays at or
  below the tolerance, the expected number of looks to an alarm at threshold c is at least c, whatever the distribution.
* intervals that people see: the empirical-Bernstein confidence sequence of S. R. Howard, A. Ramdas, J. McAuliffe and
  J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences" (2021), theorem 4 with the polynomial
  stitched boundary of theorem 1: around the mean of all events so far, whatever swings in between, at all times.

All losses lie in [0, 1]: the squared error of the probability (binary), half the squared distance of the probabilities
(multi-class), the absolute error in units of the holdout's own spread, capped (regression).
"""
