"""The compiled loops. Sums and products come in River's own order, so that the bits are River's.

Powers are computed with exponents that are arguments, so that the C library is asked as Python asks it; a constant
exponent would become another, faster function whose last digit differs now and then.
"""
