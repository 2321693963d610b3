"""Pages that span several studies."""
