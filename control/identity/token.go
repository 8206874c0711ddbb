package identity

import (
	"context"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// Review is what Kubernetes says about a token.
type Review struct {
	// Error is why the token could not be judged; empty if it was.
	Error string
	// Authenticated says whether the token is good.
	Authenticated bool
	// Username is whose it is.
	Username string
}

// Reviewer asks Kubernetes about a token, for one audience or, with an empty audience, for the API server's own. It may
// block and may be called from any goroutine; the error is about the question, not the token.
type Reviewer interface {
	Review(ctx context.Context, token, audience string) (Review, error)
}

// TokenReviews is the Reviewer that asks the API server.
type TokenReviews struct {
	Client authenticationclient.TokenReviewInterface
}

var _ Reviewer = TokenReviews{}

// Review implements Reviewer.
func (t TokenReviews) Review(ctx context.Context, token, audience string) (Review, error) {
	spec := authenticationv1.TokenReviewSpec{Token: token}
	if audience != "" {
		spec.Audiences = []string{audience}
	}
	answer, err := t.Client.Create(ctx, &authenticationv1.TokenReview{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return Review{}, err
	}
	return Review{
		Error:         answer.Status.Error,
		Authenticated: answer.Status.Authenticated,
		Username:      answer.Status.User.Username,
	}, nil
}

// reviewToken asks about a token, first as one made for the mesh. A workload without a projected token presents its
// ordinary ServiceAccount token, which Kubernetes refuses for our audience with an error that says so; it is then asked
// about without one. Source: proxy API chapter, section 7.2.
func reviewToken(ctx context.Context, reviewer Reviewer, token string) (Review, error) {
	review, err := reviewer.Review(ctx, token, names.IdentityTokenAudience)
	if err == nil && strings.Contains(review.Error, "token audiences") {
		return reviewer.Review(ctx, token, "")
	}
	return review, err
}
