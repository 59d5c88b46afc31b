"""Labels for photos and clips from networks that were trained already: joints on which several opinions agree."""
