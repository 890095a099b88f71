// Go clients against a node: says of each check whether it holds.
package main

import (
	"fmt"
	"os"
	"time"
)

const limit = 60 * time.Second

type check struct {
	name string
	run  func(node string) error
}

func main() {
	client, node := os.Args[1], os.Args[2]
	checks := map[string][]check{"franz-go": franz, "sarama": sarama_}[client]
	failed := len(checks) == 0
	for _, check := range checks {
		if err := check.run(node); err != nil {
			failed = true
			fmt.Printf("failed %s: %v\n", check.name, err)
			continue
		}
		fmt.Printf("ok %s\n", check.name)
	}
	if failed {
		os.Exit(1)
	}
}

func unique(kind string) string {
	return fmt.Sprintf("%s-%d", kind, time.Now().UnixNano())
}

func equal[T comparable](found, expected T) error {
	if found != expected {
		return fmt.Errorf("found %v, expected %v", found, expected)
	}
	return nil
}
