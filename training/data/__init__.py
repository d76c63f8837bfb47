"""Data that is committed because no light package ships it; README.md says where it comes from."""
