"""Still images: pictures of any kind, folders of frames, masks that a person drew, frames as files."""
