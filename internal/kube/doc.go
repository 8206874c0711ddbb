// Package kube connects controllers to the Kubernetes API: clients, access checks, and watches.
//
// A watch follows one kind of object, turns each object at once into a small value that holds only what its reader needs
// (the full object is never kept), and hands that to a sink:
//
//	clients, err := kube.Connect(config)
//	pods := kube.NewWatch("pods", kube.Resource(clients.Kube, clients.Kube.CoreV1().Pods("")), trimPod, sink)
//	group := kube.NewGroup(logger, pods, services)
//	go group.Run(ctx)                       // until ctx is done; waits for its watches
//	err = group.WaitSynced(ctx, kube.SyncTimeout)
//
// A sink is either the reader's own index (one writer, no second copy of the objects) or a Table, which is a map with
// getters. The calls of one watch are made one after the other from one goroutine; those of different watches are
// concurrent.
package kube
