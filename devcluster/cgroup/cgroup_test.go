package cgroup

import (
	"os"
	"reflect"
	"testing"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		file string
		v1   bool
		want []Tree
	}{
		{"v1.txt", true, []Tree{
			{Mount: "/sys/fs/cgroup/cpu", Controllers: []string{"cpu", "cpuacct"}},
			{Mount: "/sys/fs/cgroup/cpuset", Controllers: []string{"cpuset"}},
			{Mount: "/sys/fs/cgroup/systemd", Controllers: []string{"name=systemd"}},
			{Mount: "/sys/fs/cgroup/unified", Unified: true},
		}},
		{"v2.txt", false, []Tree{{Mount: "/sys/fs/cgroup", Unified: true}}},
		{"none.txt", false, nil},
	} {
		t.Run(test.file, func(t *testing.T) {
			data, err := os.ReadFile("testdata/" + test.file)
			if err != nil {
				t.Fatal(err)
			}
			got := parse(string(data))
			if !reflect.DeepEqual(got.all, test.want) {
				t.Errorf("trees = %+v, want %+v", got.all, test.want)
			}
			if len(got.all) > 0 && got.V1() != test.v1 {
				t.Errorf("V1 = %v, want %v", got.V1(), test.v1)
			}
		})
	}
}

// A fake tree shows the order of removal and the union of processes over trees.
func TestProcessesOfAllTreesAndGroups(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	write := func(dir, procs string) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/cgroup.procs", []byte(procs), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(one+"/base/a", "3\n")
	write(one+"/base/a/system", "10\n11\n")
	write(two+"/base/a/pods/x", "11\n12\n")
	write(two+"/base/b", "99\n")
	trees := Trees{all: []Tree{{Mount: one}, {Mount: two}}}
	if got, want := trees.Processes("/base/a"), []int{3, 10, 11, 12}; !reflect.DeepEqual(got, want) {
		t.Errorf("processes = %v, want %v", got, want)
	}
	groups := trees.groups("/base/a")
	position := map[string]int{}
	for i, dir := range groups {
		position[dir] = i
	}
	if position[two+"/base/a/pods/x"] > position[two+"/base/a/pods"] || position[one+"/base/a/system"] > position[one+"/base/a"] {
		t.Errorf("a parent comes before its child: %v", groups)
	}
}
