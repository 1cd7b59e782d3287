"""What a cascade does and takes: outcomes, times, work, reports, curves and explanations."""
