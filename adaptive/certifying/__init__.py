"""A bundle and new rows to a certificate, with labels or by asking for some."""
