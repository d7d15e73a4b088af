"""The stages between the inputs and the judgement: one module each, described by a function that returns a Stage."""
