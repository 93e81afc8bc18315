"""Twisted's framings at the other end, as a server or as a client:

    twisted_peer.py server RECEIVER          prints `listening on ADDRESS:PORT (Twisted)`, sends each message back
    twisted_peer.py client RECEIVER PORT     sends many messages at once, expects them back, says how many came

RECEIVER is LineReceiver, NetstringReceiver, Int16StringReceiver or Int32StringReceiver."""

import random
import sys

from twisted.internet import endpoints, protocol, reactor
from twisted.protocols import basic

MESSAGES = 1000
PATIENCE = 60


def framed(receiver, heard):
    """A protocol class that calls heard(itself, message)."""
    class Peer(getattr(basic, receiver)):
        def lineReceived(self, line):
            heard(self, line)

        def stringReceived(self, string):
            heard(self, string)

        def answer(self, message):
            (self.sendLine if receiver == "LineReceiver" else self.sendString)(message)

    return Peer


def serve(receiver):
    factory = protocol.Factory.forProtocol(framed(receiver, lambda peer, message: peer.answer(message)))

    def listening(port):
        address = port.getHost()
        print(f"listening on {address.host}:{address.port} (Twisted)", flush=True)

    endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory).addCallback(listening)


def converse(receiver, port):
    numbers = random.Random(receiver)
    # A length of up to 10000 is one that all of them allow; a line must not hold its delimiter.
    messages = [bytes(numbers.choices(range(32, 127), k=numbers.choice((0, 1, 50, 1000, 10000)))) for _ in range(MESSAGES)]
    came = []
    failures = []

    def heard(peer, message):
        came.append(message)
        if len(came) == len(messages):
            peer.transport.loseConnection()

    class Client(framed(receiver, heard)):
        def connectionMade(self):
            for message in messages:
                self.answer(message)

        def connectionLost(self, reason=None):
            if reactor.running:
                reactor.stop()

    def failed(reason):
        failures.append(reason.getErrorMessage())
        reactor.stop()

    endpoint = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    endpoint.connect(protocol.Factory.forProtocol(Client)).addErrback(failed)
    reactor.callLater(PATIENCE, reactor.stop)
    reactor.run()
    if failures or came != messages:
        sys.exit(f"{len(came)} of {len(messages)} messages came back, or others: {failures}")
    print(f"{len(came)} messages with {sum(map(len, came))} bytes came back")


if sys.argv[1] == "server":
    serve(sys.argv[2])
    reactor.run()
else:
    converse(sys.argv[2], int(sys.argv[3]))
