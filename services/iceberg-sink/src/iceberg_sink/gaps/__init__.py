"""Events of sequence numbers, followed from table to table."""
