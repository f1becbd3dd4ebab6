// Echo of frames with a 4-byte big-endian length, as Go's own documentation would have it: a goroutine for each
// connection, a buffered reader and writer, flushed when nothing more is buffered to be read. It prints its port, and
// ends with its standard input. With the argument "room", each message goes to all connections.
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

const most = 1 << 20

var (
	lock    sync.Mutex
	members = map[net.Conn]bool{}
)

func sendToAll(frame []byte) {
	lock.Lock()
	defer lock.Unlock()
	for each := range members {
		each.Write(frame)
	}
}

func serveRoom(connection net.Conn) {
	defer connection.Close()
	lock.Lock()
	members[connection] = true
	lock.Unlock()
	defer func() {
		lock.Lock()
		delete(members, connection)
		lock.Unlock()
	}()
	reader := bufio.NewReaderSize(connection, 4096)
	header := make([]byte, 4)
	for {
		if _, err := io.ReadFull(reader, header); err != nil {
			return
		}
		length := int(binary.BigEndian.Uint32(header))
		if length > most {
			return
		}
		frame := append(append([]byte{}, header...), make([]byte, length)...)
		if _, err := io.ReadFull(reader, frame[4:]); err != nil {
			return
		}
		sendToAll(frame)
	}
}

func serve(connection net.Conn) {
	defer connection.Close()
	reader, writer := bufio.NewReaderSize(connection, 65536), bufio.NewWriterSize(connection, 65536)
	frame := make([]byte, 4+1024)
	for {
		if _, err := io.ReadFull(reader, frame[:4]); err != nil {
			return
		}
		length := int(binary.BigEndian.Uint32(frame))
		if length > most {
			return
		}
		if len(frame) < 4+length {
			frame = append(frame[:4:4], make([]byte, length)...)
		}
		if _, err := io.ReadFull(reader, frame[4:4+length]); err != nil {
			return
		}
		if _, err := writer.Write(frame[:4+length]); err != nil {
			return
		}
		if reader.Buffered() < 4 {
			if err := writer.Flush(); err != nil {
				return
			}
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		if len(os.Args) > 1 {
			go serveRoom(connection)
		} else {
			go serve(connection)
		}
	}
}
