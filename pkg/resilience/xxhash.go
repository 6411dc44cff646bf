package resilience

import (
	"encoding/binary"
	"math/bits"
)

// The primes of XXH64.
const (
	prime1 uint64 = 0x9E3779B185EBCA87
	prime2 uint64 = 0xC2B2AE3D27D4EB4F
	prime3 uint64 = 0x165667B19E3779F9
	prime4 uint64 = 0x85EBCA77C2B2AE63
	prime5 uint64 = 0x27D4EB2F165667C5
)

// Hash is XXH64 of data: what Envoy hashes requests and hosts with.
func Hash(data []byte, seed uint64) uint64 {
	h, length := seed+prime5, uint64(len(data))
	if len(data) >= 32 {
		h, data = stripes(data, seed)
	}
	h += length
	for ; len(data) >= 8; data = data[8:] {
		h ^= round(0, binary.LittleEndian.Uint64(data))
		h = bits.RotateLeft64(h, 27)*prime1 + prime4
	}
	if len(data) >= 4 {
		h ^= uint64(binary.LittleEndian.Uint32(data)) * prime1
		h = bits.RotateLeft64(h, 23)*prime2 + prime3
		data = data[4:]
	}
	for _, b := range data {
		h ^= uint64(b) * prime5
		h = bits.RotateLeft64(h, 11) * prime1
	}
	h ^= h >> 33
	h *= prime2
	h ^= h >> 29
	h *= prime3
	return h ^ h>>32
}

// stripes hashes blocks of 32 bytes, in four lanes, and returns what is left.
func stripes(data []byte, seed uint64) (h uint64, rest []byte) {
	lanes := [4]uint64{seed + prime1, seed, seed, seed - prime1}
	lanes[0] += prime2
	lanes[1] += prime2
	for ; len(data) >= 32; data = data[32:] {
		for i := range lanes {
			lanes[i] = round(lanes[i], binary.LittleEndian.Uint64(data[8*i:]))
		}
	}
	for i, turn := range [4]int{1, 7, 12, 18} {
		h += bits.RotateLeft64(lanes[i], turn)
	}
	for _, lane := range lanes {
		h = (h^round(0, lane))*prime1 + prime4
	}
	return h, data
}

func round(acc, input uint64) uint64 {
	return bits.RotateLeft64(acc+input*prime2, 31) * prime1
}

// murmur is MurmurHash2 of data, 64 bits wide, with the seed that GNU's standard library and Envoy give it.
func murmur(data []byte) uint64 {
	const mul, seed = 0xc6a4a7935bd1e995, 0xc70f6907
	h := seed ^ uint64(len(data))*mul
	for ; len(data) >= 8; data = data[8:] {
		k := binary.LittleEndian.Uint64(data) * mul
		h = (h ^ (k^k>>47)*mul) * mul
	}
	if len(data) > 0 {
		var rest [8]byte
		copy(rest[:], data)
		h = (h ^ binary.LittleEndian.Uint64(rest[:])) * mul
	}
	h = (h ^ h>>47) * mul
	return h ^ h>>47
}
