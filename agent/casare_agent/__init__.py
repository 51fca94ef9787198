"""The robot agent: makes one computer a robot, takes the jobs that are placed on it, runs them, says how they end.

Belongs here: settings of an agent, what this computer can do, presence, the watch on its own jobs, running and
ending processes, their logs and results, runners.
Never: deciding where a job runs (the controller does), SQL, knowledge of the store, a queue of its own. What is to be
done is what the server says now; what is on disk here is only what must not be lost when this process dies.
"""
