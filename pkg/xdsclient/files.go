package xdsclient

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	filesName     = "config.lkg"
	filesMagic    = "breakwater-lkg\n"
	filesSchema   = 1
	filesPrevious = 3 // how many older files are kept
	maxFile       = 1 << 30
)

// Record is one resource as a server sent it.
type Record struct {
	URL, Name, Version string
	Body               []byte
}

// Files keep the last known good records of one owner in a directory, the newest and three before. A file holds a header with the
// schema, the owner and the time, then the records, each field with its length before it, then the SHA-256 of it all. When it was last
// confirmed is the time of its modification. Only one process may use a directory: see Lock.
type Files struct {
	dir   string
	owner string

	create func(path string) (writable, error) // for tests of a disk that is full
}

type writable interface {
	io.WriteCloser
	Sync() error
}

// NewFiles are those of one owner, such as a node id, in dir, which need not exist yet. Files of any other owner are not read.
func NewFiles(dir, owner string) *Files {
	return &Files{dir: dir, owner: owner, create: func(path string) (writable, error) {
		return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	}}
}

// path of the file that was saved as the n-th before the newest.
func (f *Files) path(n int) string {
	if n == 0 {
		return filepath.Join(f.dir, filesName)
	}
	return filepath.Join(f.dir, fmt.Sprintf("%s.%d", filesName, n))
}

// Load reads the newest file that is whole, and when it was saved or last confirmed. Its error, of which errors.Is(err, os.ErrNotExist) says that there
// was none, tells what was wrong with the newer ones; the result is usable where the time is not zero, whatever the error.
func (f *Files) Load() ([]Record, time.Time, error) {
	var faults []error
	for n := range filesPrevious + 1 {
		records, at, err := f.read(f.path(n))
		if err == nil {
			return records, at, errors.Join(faults...)
		}
		if !errors.Is(err, os.ErrNotExist) {
			faults = append(faults, fmt.Errorf("read %s: %w", f.path(n), err))
		}
	}
	if len(faults) == 0 {
		return nil, time.Time{}, fmt.Errorf("%s: %w", f.dir, os.ErrNotExist)
	}
	return nil, time.Time{}, errors.Join(faults...)
}

func (f *Files) read(path string) ([]Record, time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	if info.Size() > maxFile {
		return nil, time.Time{}, errors.New("it is too large")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	records, at, err := decodeFile(data, f.owner)
	if confirmed := info.ModTime(); err == nil && confirmed.After(at) {
		at = confirmed
	}
	return records, at, err
}

// Confirm says that what was saved last is right as of now.
func (f *Files) Confirm(now time.Time) error { return os.Chtimes(f.path(0), now, now) }

// Save writes records as the newest file and keeps the three before. On an error, such as a disk that is full, those stay as they were.
func (f *Files) Save(records []Record, now time.Time) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	tmp := f.path(0) + ".tmp"
	err := f.write(tmp, encodeFile(records, f.owner, now))
	if err == nil {
		err = os.Chtimes(tmp, now, now)
	}
	if err != nil {
		err = fmt.Errorf("write %s: %w", tmp, err)
		if left := os.Remove(tmp); !errors.Is(left, os.ErrNotExist) {
			err = errors.Join(err, left)
		}
		return err
	}
	for n := filesPrevious; n > 0; n-- { // a crash between two of these leaves a gap, over which Load steps
		if err := os.Rename(f.path(n-1), f.path(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(tmp, f.path(0)); err != nil {
		return err
	}
	return syncDir(f.dir)
}

func (f *Files) write(path string, data []byte) error {
	file, err := f.create(path)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func encodeFile(records []Record, owner string, now time.Time) []byte {
	var b []byte
	field := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, filesMagic...)
	b = binary.BigEndian.AppendUint32(b, filesSchema)
	field(owner)
	b = binary.BigEndian.AppendUint64(b, uint64(now.UnixNano()))
	b = binary.AppendUvarint(b, uint64(len(records)))
	for _, r := range records {
		field(r.URL)
		field(r.Name)
		field(r.Version)
		b = binary.AppendUvarint(b, uint64(len(r.Body)))
		b = append(b, r.Body...)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// The faults of a file.
var (
	errDamaged = errors.New("it is damaged")
	errSchema  = errors.New("it was written by a version with another format")
)

func decodeFile(data []byte, owner string) ([]Record, time.Time, error) {
	end := len(data) - sha256.Size
	if end < len(filesMagic) || !bytes.HasPrefix(data, []byte(filesMagic)) {
		return nil, time.Time{}, errDamaged
	}
	if sum := sha256.Sum256(data[:end]); !bytes.Equal(sum[:], data[end:]) {
		return nil, time.Time{}, errDamaged
	}
	s := &scanner{rest: slices.Clip(data[len(filesMagic):end])}
	if schema := s.fixed(4); !s.bad && binary.BigEndian.Uint32(schema) != filesSchema {
		return nil, time.Time{}, errSchema
	}
	if other := s.field(); !s.bad && string(other) != owner {
		return nil, time.Time{}, fmt.Errorf("it is of %q, not of %q", other, owner)
	}
	at := s.fixed(8)
	if s.bad {
		return nil, time.Time{}, errDamaged
	}
	records := s.records()
	if s.bad || len(s.rest) > 0 {
		return nil, time.Time{}, errDamaged
	}
	return records, time.Unix(0, int64(binary.BigEndian.Uint64(at))), nil
}

// scanner reads what encodeFile wrote. It stays bad.
type scanner struct {
	rest []byte
	bad  bool
}

func (s *scanner) records() []Record {
	var records []Record
	for range s.count() {
		r := Record{URL: string(s.field()), Name: string(s.field()), Version: string(s.field()), Body: s.field()}
		if s.bad {
			return nil
		}
		records = append(records, r)
	}
	return records
}

func (s *scanner) count() uint64 {
	n, size := binary.Uvarint(s.rest)
	if size <= 0 || n > uint64(len(s.rest)) {
		s.bad = true
		return 0
	}
	s.rest = s.rest[size:]
	return n
}

func (s *scanner) field() []byte { return s.fixed(int(s.count())) }

func (s *scanner) fixed(n int) []byte {
	if s.bad || n > len(s.rest) {
		s.bad = true
		return nil
	}
	f := s.rest[:n:n]
	s.rest = s.rest[n:]
	return f
}
