"""Damaged and hostile inputs for tfseg's readers, and a watch over what they do with them."""
