"""The model family as `nn.Module`s and tensors: no tokenizer, no file, no process group, no print.

Suffix letters on tensors say their axes:

B sequences in the batch           H query heads
L positions of the joined sequence G key/value heads
T image tiles in the whole batch   E width of one head
P patches per tile (+1: class)     F MLP hidden width
S visual tokens per tile           V vocabulary
D model width of the tower in hand C, Y, X channels, rows, columns
"""
