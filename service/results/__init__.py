"""What a run leaves behind: masks, result.json, the overlay and the contact sheet, in their folder."""
