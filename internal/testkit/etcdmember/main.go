// Command etcdmember is etcd's own server as a program, so that a test can have real members and kill them.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
