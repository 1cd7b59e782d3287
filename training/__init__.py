"""The offline side: from labelled text and a transformer to a bundle."""
