"""tenbin weighs Japanese LLMs on your own data, on the GPU you have."""
