"""What is set by hand or by a pause rule, applied to this process."""
