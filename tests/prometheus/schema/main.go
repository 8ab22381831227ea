// Reads a dashboard as strictly as Grafana's own types are: fields that are missing, unknown, or of another type.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func check(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	// Options of panels and queries are those of their plugins.
	plugins.RegisterDefaultPlugins()
	var board dashboard.Dashboard
	// Without faults this is a list without errors, which is not nil.
	if err := board.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
		return err
	}
	if err := board.Validate(); err != nil {
		return err
	}
	if newest := dashboard.NewDashboard().SchemaVersion; board.SchemaVersion != newest {
		return fmt.Errorf("schemaVersion is %d, and not %d", board.SchemaVersion, newest)
	}
	return nil
}

func main() {
	for _, file := range os.Args[1:] {
		if err := check(file); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			os.Exit(1)
		}
	}
}
