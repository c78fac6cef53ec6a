"""What is known of uploads from the topics: receipts, rejects, sums over all rows."""
