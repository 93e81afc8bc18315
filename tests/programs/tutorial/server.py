# The tutorial's server, with the port as its argument. It says where it starts after it listens and not before, so
# that port 0 is possible and whoever reads the line can connect.
import socket
import sys

# Create a TCP/IP socket
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server_address = ('localhost', int(sys.argv[1]))
sock.bind(server_address)
sock.listen(1)
print('starting up on %s port %s' % (server_address[0], sock.getsockname()[1]))

while True:
    print('waiting for a connection')
    connection, client_address = sock.accept()
    try:
        print('connection from', client_address)
        while True:
            data = connection.recv(16)
            print('received "%s"' % data)
            if data:
                print('sending data back to the client')
                connection.sendall(data)
            else:
                print('no more data from', client_address)
                break
    finally:
        connection.shutdown(2)
        connection.close()
