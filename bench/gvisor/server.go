// Serves the protocols of bench/load on gVisor's netstack, for bench/compare: echo (ping-pong,
// request/response), echo with close (crr) and bulk.
//
// The link is what runsc makes of an interface: AF_PACKET with a virtio-net header and host GSO,
// received checksums trusted, SACK and receive-buffer tuning on, a FIFO queueing discipline. Packets
// are taken by recvmmsg; runsc on new kernels takes them from a mapped ring, which lost so many here
// that sending fell to a tenth. With -gso=false it is one frame of the MTU a packet. The interface's kernel side must
// have no address. Built by bench/compare against Debian's golang-gvisor-gvisor-dev.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/link/qdisc/fifo"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	nic           = 1
	gsoMaxSize    = 65536
	packetBuffer  = 4 << 20
	protocolAll   = 0x0300 // htons(ETH_P_ALL)
	maxBulkBuffer = 64 << 20
)

// openInterface is runsc/sandbox's createSocket: AF_PACKET, with the virtio-net header for host GSO.
func openInterface(link *net.Interface, gso bool) int {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, protocolAll)
	if err != nil {
		log.Fatalf("AF_PACKET: %v", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocolAll, Ifindex: link.Index}); err != nil {
		log.Fatalf("bind to %s: %v", link.Name, err)
	}
	if gso {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			log.Fatalf("PACKET_VNET_HDR: %v", err)
		}
	}
	for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, packetBuffer); err != nil {
			log.Fatalf("socket buffer: %v", err)
		}
	}
	return fd
}

func makeStack(name, address string, gso bool) (*stack.Stack, tcpip.Address) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	ip, subnet, err := net.ParseCIDR(address)
	if err != nil || ip.To4() == nil {
		log.Fatalf("%s: not an IPv4 address with prefix", address)
	}
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
		HandleLocal:        true,
	})
	sack, tuning := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &tuning} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			log.Fatalf("%T: %v", option, err)
		}
	}
	options := &fdbased.Options{
		FDs:                []int{openInterface(link, gso)},
		MTU:                uint32(link.MTU),
		EthernetHeader:     true,
		Address:            tcpip.LinkAddress(link.HardwareAddr),
		PacketDispatchMode: fdbased.RecvMMsg,
		RXChecksumOffload:  gso,
	}
	if gso {
		options.GSOMaxSize = gsoMaxSize
	}
	endpoint, err := fdbased.New(options)
	if err != nil {
		log.Fatalf("fdbased: %v", err)
	}
	queue := fifo.New(endpoint, runtime.GOMAXPROCS(0), 1000)
	if err := s.CreateNICWithOptions(nic, endpoint, stack.NICOptions{Name: name, QDisc: queue}); err != nil {
		log.Fatalf("CreateNIC: %v", err)
	}
	own := tcpip.Address(ip.To4())
	prefix, _ := subnet.Mask.Size()
	if err := s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: own, PrefixLen: prefix},
	}, stack.AddressProperties{}); err != nil {
		log.Fatalf("AddProtocolAddress: %v", err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	return s, own
}

func echo(connection net.Conn, once bool) {
	defer connection.Close()
	buffer := make([]byte, 64*1024)
	for {
		count, err := connection.Read(buffer)
		if err != nil || count == 0 {
			return
		}
		if _, err := connection.Write(buffer[:count]); err != nil || once {
			return
		}
	}
}

// bulk serves a request of bench/load/bulk.cc: whether the server sends, the warm-up, the time that
// counts and the size of a call, eight bytes each.
func bulk(connection net.Conn) {
	defer connection.Close()
	var request [32]byte
	if _, err := io.ReadFull(connection, request[:]); err != nil {
		return
	}
	number := func(i int) uint64 { return binary.LittleEndian.Uint64(request[i*8:]) }
	if size := number(3); size == 0 || size > maxBulkBuffer {
		return
	}
	buffer := make([]byte, number(3))
	if number(0) != 0 {
		for {
			if _, err := connection.Write(buffer); err != nil {
				return
			}
		}
	}
	begin := time.Now().Add(time.Duration(number(1)))
	end := begin.Add(time.Duration(number(2)))
	var first, last time.Time
	var bytes uint64
	for {
		count, err := connection.Read(buffer)
		if err != nil {
			break
		}
		now := time.Now()
		if now.Before(begin) {
			continue
		}
		if first.IsZero() {
			first, last = now, now
		} else if last.Before(end) || bytes == 0 {
			bytes += uint64(count)
			last = now
		}
	}
	var reply [16]byte
	binary.LittleEndian.PutUint64(reply[:], bytes)
	binary.LittleEndian.PutUint64(reply[8:], uint64(last.Sub(first)))
	connection.Write(reply[:])
}

func main() {
	iface := flag.String("interface", "", "the interface whose packets the stack takes")
	address := flag.String("address", "", "the stack's address with prefix")
	port := flag.Int("port", 7000, "the port")
	gso := flag.Bool("gso", true, "host GSO, as runsc has it by default")
	flag.Parse()
	s, own := makeStack(*iface, *address, *gso)
	listener, err := gonet.ListenTCP(s, tcpip.FullAddress{NIC: nic, Addr: own, Port: uint16(*port)},
		ipv4.ProtocolNumber)
	if err != nil {
		log.Fatalf("listen: %v", err)
	}
	serve := map[string]func(net.Conn){
		"echo-server": func(c net.Conn) { echo(c, false) },
		"crr-server":  func(c net.Conn) { echo(c, true) },
		"bulk-server": bulk,
	}[flag.Arg(0)]
	if serve == nil {
		log.Fatal("usage: server [options] echo-server|crr-server|bulk-server")
	}
	fmt.Println("ready")
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatalf("accept: %v", err)
		}
		go serve(connection)
	}
}
