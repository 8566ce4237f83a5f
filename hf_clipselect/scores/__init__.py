"""How good a row is: pure functions of arrays."""
