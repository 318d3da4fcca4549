package telemetry

// Challenges counts challenges that were offered and answers by what became of them:
// passed, wrong, forged, foreign, expired, spent, cheap, early, unreadable, unavailable,
// undecided. The providers are altcha, turnstile, hcaptcha and wait.
var Challenges = counterVec("usher_challenges_total", "Challenges offered, and answers by their outcome.", "provider", "outcome")
