"""A lab's nights: what is to be measured, where and on which kernel, one boot after another."""
