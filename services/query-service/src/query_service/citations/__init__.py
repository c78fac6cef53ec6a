"""Citations of answers, and their verification."""
