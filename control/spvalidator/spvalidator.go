// Package spvalidator decides whether a ServiceProfile makes sense, for the admission webhook of that kind.
//
// Admit is the function that internal/webhook asks; Validate is the decision itself, about the JSON of one profile. Both
// keep no state and may be called from any goroutine. Source: control plane chapter, section 5.
package spvalidator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/json"

	"github.com/linkerd-go/linkerd-go/api/crd/serviceprofile/v1alpha2"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

// Admit decides about one admission request. A bad profile is a denial, not an error.
func Admit(_ context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	name, warnings, err := Validate(request.Object.Raw)
	if err == nil {
		return &admissionv1.AdmissionResponse{Allowed: true, Warnings: warnings}, nil
	}
	if name == "" {
		name = request.Name
	}
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Code:    http.StatusBadRequest,
		Message: fmt.Sprintf("%s: %v", name, err),
	}}, nil
}

// Validate checks the JSON of a ServiceProfile. It returns the profile's name as far as it could be read, and what is wrong
// first.
//
// A path expression that does not compile is allowed, as it always was, but its route is left out later, and so is an opaque
// port that is none; so they come with a warning, which kubectl shows to its author.
func Validate(data []byte) (name string, warnings []string, err error) {
	var profile v1alpha2.ServiceProfile
	strict, err := json.UnmarshalStrict(data, &profile)
	name = profile.Name
	if err = errors.Join(append(strict, err)...); err != nil {
		return name, nil, fmt.Errorf("failed to validate ServiceProfile: %w", err)
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return name, nil, fmt.Errorf("ServiceProfile has an invalid name: %s", problems[0])
	}
	for _, route := range profile.Spec.Routes {
		if err := validateRoute(route); err != nil {
			return name, nil, err
		}
		for _, expression := range expressions(route.Condition) {
			if _, err := regexp.Compile(expression); err != nil {
				warnings = append(warnings, fmt.Sprintf("route %q is ignored: pathRegex: %v", route.Name, err))
			}
		}
	}
	_, errs := portlist.Parse(strings.Join(profile.Spec.OpaquePorts, ","), nil)
	for _, err := range errs {
		warnings = append(warnings, fmt.Sprintf("spec.opaquePorts: ignored: %v", err))
	}
	return name, warnings, validateBudget(profile.Spec.RetryBudget)
}

// expressions returns all path expressions of a condition that has been validated.
func expressions(match *v1alpha2.RequestMatch) []string {
	list := []string{match.PathRegex}
	for _, child := range append(append([]*v1alpha2.RequestMatch{}, match.All...), match.Any...) {
		list = append(list, expressions(child)...)
	}
	if match.Not != nil {
		list = append(list, expressions(match.Not)...)
	}
	return list
}

func validateRoute(route *v1alpha2.RouteSpec) error {
	if route == nil {
		return errors.New("ServiceProfile has a null route")
	}
	if route.Name == "" {
		return errors.New("ServiceProfile has a route with no name")
	}
	if route.Timeout != "" {
		if _, err := time.ParseDuration(route.Timeout); err != nil {
			return fmt.Errorf("ServiceProfile has a route %q with an invalid timeout: %w", route.Name, err)
		}
	}
	if route.Condition == nil {
		return fmt.Errorf("ServiceProfile has a route %q with no condition", route.Name)
	}
	if err := validateRequestMatch(route.Condition); err != nil {
		return fmt.Errorf("ServiceProfile has a route %q with an invalid condition: %w", route.Name, err)
	}
	for _, class := range route.ResponseClasses {
		if class == nil {
			return fmt.Errorf("ServiceProfile has a route %q with a null response class", route.Name)
		}
		if class.Condition == nil {
			return fmt.Errorf("ServiceProfile has a route %q with a response class with no condition", route.Name)
		}
		if err := validateResponseMatch(class.Condition); err != nil {
			return fmt.Errorf("ServiceProfile has a route %q with an invalid response class: %w", route.Name, err)
		}
	}
	return nil
}

func validateRequestMatch(match *v1alpha2.RequestMatch) error {
	if match == nil {
		return errors.New("a request match is null")
	}
	if match.All == nil && match.Any == nil && match.Not == nil && match.Method == "" && match.PathRegex == "" {
		return errors.New("a request match must have at least one of all, any, not, method, pathRegex")
	}
	for _, child := range append(append([]*v1alpha2.RequestMatch{}, match.All...), match.Any...) {
		if err := validateRequestMatch(child); err != nil {
			return err
		}
	}
	if match.Not != nil {
		return validateRequestMatch(match.Not)
	}
	return nil
}

func validateResponseMatch(match *v1alpha2.ResponseMatch) error {
	if match == nil {
		return errors.New("a response match is null")
	}
	if match.All == nil && match.Any == nil && match.Not == nil && match.Status == nil {
		return errors.New("a response match must have at least one of all, any, not, status")
	}
	if s := match.Status; s != nil {
		for _, bound := range []int32{s.Min, s.Max} {
			if bound != 0 && (bound < 100 || bound > 599) {
				return fmt.Errorf("status %d is not an HTTP status code", bound)
			}
		}
		if s.Min != 0 && s.Max != 0 && s.Max < s.Min {
			return fmt.Errorf("the range of status codes from %d to %d is empty: max is below min", s.Min, s.Max)
		}
	}
	for _, child := range append(append([]*v1alpha2.ResponseMatch{}, match.All...), match.Any...) {
		if err := validateResponseMatch(child); err != nil {
			return err
		}
	}
	if match.Not != nil {
		return validateResponseMatch(match.Not)
	}
	return nil
}

func validateBudget(budget *v1alpha2.RetryBudget) error {
	if budget == nil {
		return nil
	}
	if budget.RetryRatio < 0 {
		return fmt.Errorf("ServiceProfile has a retry budget with a negative ratio: %g", budget.RetryRatio)
	}
	if budget.TTL == "" {
		return errors.New("ServiceProfile has a retry budget with no ttl")
	}
	if _, err := time.ParseDuration(budget.TTL); err != nil {
		return fmt.Errorf("ServiceProfile has a retry budget with an invalid ttl: %w", err)
	}
	return nil
}
