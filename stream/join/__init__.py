"""Labels that come later: records of questions and of labels, in order of time, joined by id."""
