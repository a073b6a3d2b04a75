"""The usual snippet for IPv4 alone: the worker goes on.

alone: run
times: 2
output: {"result": 1}
"""

import socket

from user_agent_sdk import user_agent


real = socket.getaddrinfo

def of_ipv4(host, port, family=0, socktype=0, proto=0, flags=0):
    return real(host, port, socket.AF_INET, socktype, proto, flags)

socket.getaddrinfo = of_ipv4

@user_agent(agent_id="replaces_the_look_up")
def work():
    return 1
