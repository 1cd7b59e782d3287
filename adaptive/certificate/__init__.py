"""The certificate: its values, its sequence of tests, and the labels that they need."""
