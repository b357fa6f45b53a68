"""The learner's tools: `step` walks through a script line by line and shows its arrays."""
