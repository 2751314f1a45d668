package main

import (
	"encoding/xml"
	"net/http"
	"sort"
	"strconv"
)

// parts are what a multipart upload has received, by their numbers.
type parts map[int]*object

type initiated struct {
	XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
	Bucket   string
	Key      string
	UploadId string
}

type completed struct {
	XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
	ETag    string
}

func (s *server) begin(answer http.ResponseWriter, bucket, key string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.begun++
	upload := strconv.Itoa(s.begun)
	s.uploads[upload] = parts{}
	reply(answer, initiated{Bucket: bucket, Key: key, UploadId: upload})
}

func (s *server) putPart(answer http.ResponseWriter, request *http.Request, upload string) {
	number, err := strconv.Atoi(request.URL.Query().Get("partNumber"))
	if err != nil {
		fail(answer, http.StatusBadRequest, "InvalidArgument")
		return
	}
	made, err := s.receive(request)
	if err != nil {
		fail(answer, http.StatusBadRequest, "IncompleteBody")
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	received, known := s.uploads[upload]
	if !known {
		fail(answer, http.StatusNotFound, "NoSuchUpload")
		return
	}
	received[number] = made
	answer.Header().Set("ETag", made.tag)
}

// complete makes an object of all parts that came, whatever the request lists.
func (s *server) complete(answer http.ResponseWriter, name, upload string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	received, known := s.uploads[upload]
	if !known || len(received) == 0 {
		fail(answer, http.StatusNotFound, "NoSuchUpload")
		return
	}
	numbers := make([]int, 0, len(received))
	for number := range received {
		numbers = append(numbers, number)
	}
	sort.Ints(numbers)
	whole := &object{tag: received[numbers[0]].tag, modified: received[numbers[0]].modified}
	for _, number := range numbers {
		whole.data = append(whole.data, received[number].data...)
		whole.size += received[number].size
	}
	s.objects[name] = whole
	delete(s.uploads, upload)
	reply(answer, completed{ETag: whole.tag})
}
