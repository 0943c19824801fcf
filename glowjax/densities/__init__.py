"""What flows are for: densities, images of whole numbers, inference."""
