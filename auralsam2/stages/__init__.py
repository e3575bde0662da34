"""The network cut into the stages that are served: four that a clip passes, and small ones for prompts."""
