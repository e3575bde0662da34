"""What the bench shows: tables and a picture."""
