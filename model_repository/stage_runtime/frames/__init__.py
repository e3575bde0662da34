"""The frames of a clip as they come: raw, or as files of pictures, which are measured before they are decoded."""
