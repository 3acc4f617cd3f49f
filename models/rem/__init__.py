"""REM: a RetNet over discrete frames that predicts a whole frame in one pass, and an actor-critic inside it."""
