"""Events as arrays, and stages that they go through."""
