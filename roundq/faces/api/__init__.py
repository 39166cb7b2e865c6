"""The queue for Python programs: what `import roundq` offers.

A face like the command: it says to the actors what a program wants, and shows what they answer.
"""
