// An HTTP server and client, in one program: `web serve ADDRESS`, `web fetch URL [COUNT]`, and
// `web children ADDRESS`: programs are started while a connection is open.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
)

func serve(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d", r.Method, r.URL.Path, len(body))
	})
	http.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) {
		block := make([]byte, 1<<16)
		for i := 0; i < 256; i++ {
			block[0] = byte(i)
			w.Write(block)
		}
	})
	fmt.Println(http.Serve(listener, nil))
}

func fetch(url string, count int) {
	var wait sync.WaitGroup
	sums := make([]string, count)
	for i := 0; i < count; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			response, err := http.Get(url)
			if err != nil {
				sums[i] = err.Error()
				return
			}
			defer response.Body.Close()
			hash := sha256.New()
			io.Copy(hash, response.Body)
			sums[i] = fmt.Sprintf("%d %x", response.StatusCode, hash.Sum(nil))
		}(i)
	}
	wait.Wait()
	seen := map[string]int{}
	for _, sum := range sums {
		seen[sum]++
	}
	for sum, n := range seen {
		fmt.Println(n, sum)
	}
}

// A child closes and duplicates numbers between vfork and exec, in memory that is its parent's.
func children(address string) {
	connection, err := net.Dial("tcp", address)
	for i := 0; i < 20 && err == nil; i++ {
		var out []byte
		if out, err = exec.Command("/bin/echo", "child").Output(); err == nil && string(out) != "child\n" {
			err = fmt.Errorf("the child said %q", out)
		}
	}
	if err == nil {
		_, err = fmt.Fprintf(connection, "GET /after HTTP/1.0\r\n\r\n")
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	answer, err := io.ReadAll(connection)
	fmt.Println(len(answer) > 0, err)
}

func main() {
	if os.Args[1] == "serve" {
		serve(os.Args[2])
		return
	}
	if os.Args[1] == "children" {
		children(os.Args[2])
		return
	}
	count := 1
	if len(os.Args) > 3 {
		count, _ = strconv.Atoi(os.Args[3])
	}
	fetch(os.Args[2], count)
}
