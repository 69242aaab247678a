"""Reading tables as data: chunks behind watermarks, and single rows again (DESIGN P3)."""
