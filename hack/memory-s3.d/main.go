// memory-s3 is an S3 server that keeps objects in memory and does as little as it can: for benchmarks in which the
// server must not be what limits. It checks no signature and no digest, so it is no server for tests.
//
//	memory-s3 [-address HOST:PORT] [-rate BYTES_PER_S] [-discard]
//
// It prints the address that it listens on, and answers PutObject (If-None-Match, If-Match), GetObject (Range),
// HeadObject, DeleteObject, ListObjectsV2 and multipart uploads in path style (S3 API reference). -rate bounds what
// all connections receive and send together, as a wire would; -discard drops the bytes of large objects.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

const large = 1 << 20

type object struct {
	data     [][]byte // one piece, or the parts of a multipart upload; none if discarded
	size     int
	tag      string
	modified time.Time
}

// piece returns the bytes at an offset, at most so many, and at least one.
func (o *object) piece(offset, most int) []byte {
	for _, data := range o.data {
		if offset < len(data) {
			return data[offset:min(offset+most, len(data))]
		}
		offset -= len(data)
	}
	return make([]byte, most)
}

type server struct {
	mutex    sync.RWMutex
	objects  map[string]*object // by bucket/key
	requests map[string]int     // by method
	uploads  map[string]parts   // by the id of a multipart upload
	begun    int                // multipart uploads so far
	discard  bool
	wire     wire
}

// queued is what a real wire's buffers keep busy while nobody is scheduled to send.
const queued = 10 * time.Millisecond

// wire lets so many bytes through per second, whoever sends them.
type wire struct {
	mutex sync.Mutex
	rate  float64
	free  time.Time
}

func (w *wire) carry(count int) {
	if w.rate <= 0 {
		return
	}
	w.mutex.Lock()
	if earliest := time.Now().Add(-queued); w.free.Before(earliest) {
		w.free = earliest
	}
	w.free = w.free.Add(time.Duration(float64(count) / w.rate * float64(time.Second)))
	until := w.free
	w.mutex.Unlock()
	time.Sleep(time.Until(until))
}

// carried reads through the wire, in pieces small enough to flow evenly.
type carried struct {
	io.Reader
	wire *wire
}

func (c carried) Read(piece []byte) (int, error) {
	count, err := c.Reader.Read(piece[:min(len(piece), 256<<10)])
	c.wire.carry(count)
	return count, err
}

func main() {
	address := flag.String("address", "127.0.0.1:0", "where to listen")
	rate := flag.Float64("rate", 0, "bytes per second in all; 0 is no bound")
	discard := flag.Bool("discard", false, "drop the bytes of large objects")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	served := &server{
		objects:  map[string]*object{},
		requests: map[string]int{},
		uploads:  map[string]parts{},
		discard:  *discard,
		wire:     wire{rate: *rate},
	}
	log.Fatal(http.Serve(listener, served))
}

func (s *server) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	name := strings.TrimPrefix(request.URL.Path, "/")
	bucket, key, _ := strings.Cut(name, "/")
	upload := request.URL.Query().Get("uploadId")
	s.mutex.Lock()
	s.requests[request.Method]++
	s.mutex.Unlock()
	switch {
	case name == "-/requests":
		s.count(answer)
	case request.Method == http.MethodPut && key == "":
		answer.WriteHeader(http.StatusOK)
	case request.Method == http.MethodPost && key != "" && upload == "":
		s.begin(answer, bucket, key)
	case request.Method == http.MethodPost && key != "":
		s.complete(answer, name, upload)
	case request.Method == http.MethodPut && upload != "":
		s.putPart(answer, request, upload)
	case request.Method == http.MethodDelete && upload != "":
		s.mutex.Lock()
		delete(s.uploads, upload)
		s.mutex.Unlock()
		answer.WriteHeader(http.StatusNoContent)
	case request.Method == http.MethodPut:
		s.put(answer, request, name)
	case request.Method == http.MethodGet && key == "":
		s.list(answer, bucket, request.URL.Query())
	case request.Method == http.MethodGet || request.Method == http.MethodHead:
		s.get(answer, request, name)
	case request.Method == http.MethodDelete:
		s.mutex.Lock()
		delete(s.objects, name)
		s.mutex.Unlock()
		answer.WriteHeader(http.StatusNoContent)
	default:
		fail(answer, http.StatusNotImplemented, "NotImplemented")
	}
}

// count tells how many requests of each kind there were, and forgets them.
func (s *server) count(answer http.ResponseWriter) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for method, count := range s.requests {
		fmt.Fprintf(answer, "%s %d\n", method, count)
	}
	s.requests = map[string]int{}
}

func (s *server) put(answer http.ResponseWriter, request *http.Request, name string) {
	made, err := s.receive(request)
	if err != nil {
		fail(answer, http.StatusBadRequest, "IncompleteBody")
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := s.objects[name]
	if request.Header.Get("If-None-Match") == "*" && found != nil {
		fail(answer, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	if wanted := request.Header.Get("If-Match"); wanted != "" && (found == nil || found.tag != wanted) {
		fail(answer, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	s.objects[name] = made
	answer.Header().Set("ETag", made.tag)
}

func (s *server) receive(request *http.Request) (*object, error) {
	random := make([]byte, 16) // a tag that claims to be no MD5, which clients would check
	rand.Read(random)
	made := &object{size: int(request.ContentLength), tag: `"` + hex.EncodeToString(random) + `-1"`, modified: time.Now().UTC()}
	body := carried{request.Body, &s.wire}
	if s.discard && made.size >= large {
		count, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, body, make([]byte, 256<<10))
		if err == nil && int(count) != made.size {
			err = io.ErrUnexpectedEOF
		}
		return made, err
	}
	if made.size < 0 {
		data, err := io.ReadAll(body)
		made.data, made.size = [][]byte{data}, len(data)
		return made, err
	}
	data := make([]byte, made.size)
	_, err := io.ReadFull(body, data)
	made.data = [][]byte{data}
	return made, err
}

func (s *server) get(answer http.ResponseWriter, request *http.Request, name string) {
	s.mutex.RLock()
	found := s.objects[name]
	s.mutex.RUnlock()
	if found == nil {
		fail(answer, http.StatusNotFound, "NoSuchKey")
		return
	}
	start, end, status := 0, found.size, http.StatusOK
	if wanted := request.Header.Get("Range"); wanted != "" {
		if _, err := fmt.Sscanf(wanted, "bytes=%d-%d", &start, &end); err == nil {
			end = min(end+1, found.size)
			status = http.StatusPartialContent
			answer.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, found.size))
		}
	}
	answer.Header().Set("ETag", found.tag)
	answer.Header().Set("Last-Modified", found.modified.Format(http.TimeFormat))
	answer.Header().Set("Content-Length", strconv.Itoa(end-start))
	answer.WriteHeader(status)
	if request.Method == http.MethodHead {
		return
	}
	for start < end {
		piece := found.piece(start, min(end-start, 256<<10))
		s.wire.carry(len(piece))
		if _, err := answer.Write(piece); err != nil {
			return
		}
		start += len(piece)
	}
}

type content struct {
	Key          string
	Size         int
	ETag         string
	LastModified string
}

type common struct{ Prefix string }

type listing struct {
	XMLName        xml.Name `xml:"ListBucketResult"`
	IsTruncated    bool
	Contents       []content
	CommonPrefixes []common
}

func (s *server) list(answer http.ResponseWriter, bucket string, query url.Values) {
	prefix, delimiter := query.Get("prefix"), query.Get("delimiter")
	found, folders := listing{}, map[string]bool{}
	s.mutex.RLock()
	for name, one := range s.objects {
		key, ours := strings.CutPrefix(name, bucket+"/")
		if !ours || !strings.HasPrefix(key, prefix) {
			continue
		}
		if rest := key[len(prefix):]; delimiter != "" && strings.Contains(rest, delimiter) {
			folders[prefix+rest[:strings.Index(rest, delimiter)+1]] = true
			continue
		}
		found.Contents = append(found.Contents,
			content{key, one.size, one.tag, one.modified.Format("2006-01-02T15:04:05.000Z")})
	}
	s.mutex.RUnlock()
	for folder := range folders {
		found.CommonPrefixes = append(found.CommonPrefixes, common{folder})
	}
	sort.Slice(found.Contents, func(a, b int) bool { return found.Contents[a].Key < found.Contents[b].Key })
	reply(answer, found)
}

func reply(answer http.ResponseWriter, found any) {
	answer.Header().Set("Content-Type", "application/xml")
	if err := xml.NewEncoder(answer).Encode(found); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func fail(answer http.ResponseWriter, status int, code string) {
	answer.Header().Set("Content-Type", "application/xml")
	answer.WriteHeader(status)
	fmt.Fprintf(answer, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, http.StatusText(status))
}
