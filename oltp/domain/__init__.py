"""The rules of the business, pure: values in, values or typed errors out.

Belongs here: state machines, pricing, limits of capture and refund, what a change makes of a state. Does not belong
here: reading, writing, clocks, ids of our own making: all of these are passed in.
"""
