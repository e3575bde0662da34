"""What a person types: the command line tool, and all that it prints, draws and writes."""
