"""Special domains: one small segmentation task per file, each with a real counterpart."""
