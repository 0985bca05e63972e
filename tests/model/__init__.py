"""A state machine of random operations, beside a plain model of what they should do.

Everything that it writes says of itself whether it is whole, so that readers in other threads, who
cannot know what is there at the moment, see at once what is torn, missing or in the wrong place.
"""
