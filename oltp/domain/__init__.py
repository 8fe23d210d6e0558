"""The rules of the business, pure: values in, values or typed errors out.

Belongs here: state machines, pricing, limits of capture and refund, functions from a state to the next state. Does not
belong here: reading, writing, clocks, generating ids. The caller passes these in.
"""
