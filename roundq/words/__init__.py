"""Pure: the words of the queue. Knows no files, no clock, no processes."""
