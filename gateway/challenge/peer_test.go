package challenge

import (
	_ "embed"
	"encoding/json"
	"testing"
)

// The vectors are answers that we and ALTCHA's own library (npm altcha-lib 2.8.0) made;
// web/test/altcha.test.mjs has that library verify the same file.
//
//go:embed testdata/altcha.json
var vectors []byte

func TestAnswersOfTheOfficialLibrary(t *testing.T) {
	t.Parallel()
	var v struct{ Secret, Go, Library string }
	if err := json.Unmarshal(vectors, &v); err != nil {
		t.Fatal(err)
	}
	for maker, answer := range map[string]string{"go": v.Go, "library": v.Library} {
		p, err := parseAnswer(answer)
		if err != nil || !p.ours(v.Secret) || !p.right() {
			t.Errorf("the answer of %s is refused: %v %+v", maker, err, p)
		}
		raw, err := json.Marshal(p.Challenge)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Solve(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		if q, err := parseAnswer(again); err != nil || q.Solution.Counter != p.Solution.Counter || q.Solution.DerivedKey != p.Solution.DerivedKey {
			t.Errorf("we solve the challenge of %s otherwise: %+v, %v", maker, q.Solution, err)
		}
	}
}
